"""What a function can be called with by name, and whether a call fits: without ``Signature.bind``, which costs 5 µs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from inspect import Parameter
from typing import Any

from ... import _checks
from .._calls.misspelt import meant
from .._calls.options import OPTIONS

__all__ = ["Parameters"]

_BY_NAME = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY, Parameter.VAR_KEYWORD)


class Parameters:
    """The parameters of ``fn``.

    Raises:
        TypeError: some have no name that a call can use: arguments are kept by name.
    """

    __slots__ = ("_extra", "defaults", "names", "required", "signature")

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.signature = inspect.signature(fn)
        parameters = self.signature.parameters.values()
        for each in parameters:
            if each.kind not in _BY_NAME:
                raise TypeError(
                    f"expected parameters that a call can name, for arguments are kept by name, got {str(each)!r} of "
                    f"{_checks.shown(fn)}; name them one by one, or take **kwargs"
                )
        extra = [each.name for each in parameters if each.kind is Parameter.VAR_KEYWORD]
        self._extra = extra[0] if extra else None  #: of its ``**kwargs``
        named = [each for each in parameters if each.kind is not Parameter.VAR_KEYWORD]
        self.names = frozenset(each.name for each in named)
        self.required = frozenset(each.name for each in named if each.default is Parameter.empty)
        self.defaults = {each.name: each.default for each in named if each.default is not Parameter.empty}

    def fits(self, given: dict[str, Any]) -> bool:
        """Say whether a call with ``given`` and nothing else would be right."""
        return self.required <= given.keys() and (self._extra is not None or given.keys() <= self.names)

    def takes(self, name: str) -> bool:
        """Say whether there is an argument of this name."""
        return self._extra is not None or name in self.names

    def bind(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments of a call by their names.

        Raises:
            TypeError: as the call itself would.
        """
        if not args and self.fits(kwargs):
            return kwargs
        return self._bind(self.signature.bind, name, args, kwargs)

    def bind_partial(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Do the same, where some arguments may be missing."""
        return self._bind(self.signature.bind_partial, name, args, kwargs)

    def _remedy(self, task: str, kwargs: dict[str, Any]) -> str:
        """Return what to do about arguments that the function does not have, with a semicolon before it."""
        unknown = [each for each in kwargs if not self.takes(each)]
        if options := [each for each in unknown if each in OPTIONS]:
            said = ", ".join(f"{each}=..." for each in options)
            return f"; {task} has no argument of this name: for the option say .options({said}).enqueue(...)"
        return "".join(meant(each, self.names - kwargs.keys()) for each in unknown[:1])

    def _bind(
        self, bind: Callable[..., inspect.BoundArguments], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> dict[str, Any]:
        try:
            bound = dict(bind(*args, **kwargs).arguments)
        except TypeError as error:
            raise TypeError(
                f"expected arguments that {name!r} takes, but {error}{self._remedy(name, kwargs)}"
            ) from None
        if self._extra is not None:
            bound |= bound.pop(self._extra, {})
        return bound
