"""The lock that a task names: text, or text with arguments in it, as ``"user-{user}"``."""

from __future__ import annotations

import string
from typing import Any

from ... import _checks
from ..errors import JobRefused
from .names import check_name
from .parameters import Parameters

__all__ = ["LockName"]


class LockName:
    """A template of locks for calls with ``parameters``; ``{{`` is a brace.

    Raises:
        ValueError: it is no text, or names what is no parameter; nothing but a parameter's name may be in braces.
    """

    __slots__ = ("_defaults", "_parts", "fixed")

    def __init__(self, template: Any, parameters: Parameters) -> None:
        text = check_name("lock", template)
        try:
            parts = list(string.Formatter().parse(text))
        except ValueError as error:
            raise _checks.wrong("lock", "text, with parameters in braces", text, "a brace itself is {{") from error
        for _, name, form, conversion in parts:
            if name is not None and (name not in parameters.names or form or conversion):
                known = ", ".join(sorted(parameters.names)) or "none"
                raise _checks.wrong("what is in the braces of lock", f"the name of a parameter ({known})", text)
        self._parts = [(literal, name) for literal, name, _, _ in parts]
        self._defaults = parameters.defaults
        #: The lock of every call, where no argument is in it.
        self.fixed = None if any(name for _, name in self._parts) else "".join(each for each, _ in self._parts)

    def of(self, args: dict[str, Any]) -> str:
        """Return the lock of a call with ``args``.

        Raises:
            JobRefused: an argument in it is neither text nor an integer, or makes it too long or unprintable.
        """
        if self.fixed is not None:
            return self.fixed
        parts = [literal + ("" if name is None else self._text(name, args)) for literal, name in self._parts]
        try:
            return check_name("the lock", "".join(parts))
        except ValueError as error:
            raise JobRefused(f"{error}; or say lock=... in options") from None

    def _text(self, name: str, args: dict[str, Any]) -> str:
        value = args[name] if name in args else self._defaults.get(name)
        exact = _checks.string(value)
        if exact is None:
            exact = "" if (number := _checks.integer(value)) is None else str(number)
        if not exact:
            raise JobRefused(
                f"expected args[{name!r}], which is part of the lock, to be text or an integer, got "
                f"{type(value).__name__}; say lock=... in options"
            )
        return exact
