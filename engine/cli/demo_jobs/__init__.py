"""``engine demo --jobs FILE``: the demo's work as durable jobs, which a killed run leaves to the next one.

Worker processes import this package on their way to ``work``.
"""
