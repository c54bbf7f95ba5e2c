"""The log: where every record of every task is kept, and the only truth.

``port`` says what a log does; ``memory`` and ``jetstream`` do it, held to one contract suite; ``append`` is the one
function through which every writer writes. Only ``jetstream`` knows NATS.
"""
