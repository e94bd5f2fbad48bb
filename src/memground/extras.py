"""The error for an optional package that is not installed."""

from memground.errors import ConfigurationError


def missing_package(package: str, extra: str) -> ConfigurationError:
    """To be raised when importing ``package``, which comes with ``extra``, failed."""
    return ConfigurationError(f'the package {package} is not installed; run: pip install "neuromem-omnimem[{extra}]"')
