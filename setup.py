"""The package list: ``kernels/`` of the repository root is installed as ``emnesy_gpu.kernels``."""

from setuptools import find_packages, setup

ROOTS = {"emnesy_gpu": "emnesy_gpu", "kernels": "emnesy_gpu.kernels"}

folders = find_packages(include=["emnesy_gpu", "emnesy_gpu.*", "kernels", "kernels.*"])
packages = {
    folder.replace(root, name, 1): folder.replace(".", "/")
    for folder in folders
    for root, name in ROOTS.items()
    if folder.split(".")[0] == root
}

setup(packages=list(packages), package_dir=packages)
