"""From a call to rows: options, arguments, what follows, many at once."""
