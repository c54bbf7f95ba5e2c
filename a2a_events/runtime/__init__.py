"""What runs: the operations that gateways offer, the agents' interface, and the worker that runs them.

``operations`` is the read and write path of a gateway, ``worker`` and ``turn_writer`` that of a worker; they never talk
to each other but through the log. ``agent`` and ``turn`` are what an agent's author sees.
"""
