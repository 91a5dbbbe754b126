"""What others do in place of a posterior engine, one file a method."""
