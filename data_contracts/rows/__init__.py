"""From bytes to rows: compression, JSON lines, shapes, and the findings that name a row."""
