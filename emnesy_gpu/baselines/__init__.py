"""The methods that others use in place of a posterior engine, one file per method."""
