"""Numbers as people read them: with units, and never wider than they need to be."""

__all__ = ["age", "clip", "count", "duration", "head", "plain", "share", "size"]


def count(number: int, one: str = "", many: str = "") -> str:
    """Return ``number`` with thousands separated, and with its noun where one is given: "1 file", "1,771 files"."""
    text = f"{number:,}"
    return f"{text} {one if number == 1 else many or one + 's'}" if one else text


def size(size_bytes: float) -> str:
    """Return a number of bytes in decimal units: "812 B", "3.4 MB"."""
    if size_bytes < 1000:
        return f"{size_bytes:.0f} B"
    for unit in ("kB", "MB", "GB"):
        size_bytes /= 1000
        if size_bytes < 999.95:
            return f"{size_bytes:.1f} {unit}"
    return f"{size_bytes / 1000:.1f} TB"


def duration(seconds: float) -> str:
    """Return a time in the unit that suits it: "85 us", "12 ms", "3.42 s", "2 min 05 s", "1 h 01 min"."""
    if seconds < 0.0009995:
        return f"{seconds * 1e6:.0f} us"
    if seconds < 0.9995:
        return f"{seconds * 1000:.{1 if seconds < 0.00995 else 0}f} ms"
    if seconds < 59.95:
        return f"{seconds:.{2 if seconds < 9.995 else 1}f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def age(seconds: float) -> str:
    """Return a time in one number of one unit, as in "3 s", "12 min", "5 h", "8 d"; never below "0 s"."""
    whole = max(round(seconds), 0)
    for unit, size_of_it, most in (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 172_800)):
        if whole < most:
            return f"{whole // size_of_it} {unit}"
    return f"{whole // 86_400:,} d"


def share(part: float, whole: float) -> str:
    """Return ``part`` of ``whole`` in per cent; "-" of nothing."""
    return f"{100 * part / whole:.0f} %" if whole > 0 else "-"


def plain(text: str) -> str:
    """Return ``text`` on one line, printable anywhere: file names may hold newlines, escapes and broken bytes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def clip(text: str, width: int) -> str:
    """Return ``text`` printable in ``width`` columns, its beginning replaced by dots where it is longer."""
    text = plain(text)
    return text if len(text) <= width else "..." + text[len(text) - width + 3 :]


def head(text: str, width: int) -> str:
    """Return ``text`` in ``width`` columns, its end replaced by dots where it is longer."""
    return text if len(text) <= width else text[: width - 3] + "..."
