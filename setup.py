"""The package list: ``kernels/`` of the repository root is installed as ``emnesy_gpu.kernels``."""

from setuptools import find_packages, setup
from setuptools.command.editable_wheel import editable_wheel

ROOTS = {"emnesy_gpu": "emnesy_gpu", "kernels": "emnesy_gpu.kernels"}

folders = find_packages(include=["emnesy_gpu", "emnesy_gpu.*", "kernels", "kernels.*"])
packages = {
    folder.replace(root, name, 1): folder.replace(".", "/")
    for folder in folders
    for root, name in ROOTS.items()
    if folder.split(".")[0] == root
}


class EditableByPath(editable_wheel):
    """Put the checkout on ``sys.path``, where ``emnesy_gpu`` finds the kernels beside itself.

    The finder that setuptools would install comes after ``sys.path``: from a folder that holds the checkout, Python
    took the folder ``emnesy_gpu`` for a namespace package. "strict" links every file, the kernels in their place too.
    """

    def finalize_options(self) -> None:
        """Name the packages as they lie in the checkout."""
        if self.mode != "strict":
            self.distribution.packages = [name for name, folder in packages.items() if name == folder.replace("/", ".")]
            self.distribution.package_dir = {"": "."}
        super().finalize_options()


setup(packages=list(packages), package_dir=packages, cmdclass={"editable_wheel": EditableByPath})
