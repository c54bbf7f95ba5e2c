"""Composition roots: each process of a deployment, put together from the library in a few lines.

``gateway``, ``worker``, ``notifier`` and ``provisioner`` are the processes; ``up`` runs all of them with an embedded
``nats_server``; ``logs`` sets up logging, ``connect`` the log, ``webhook_client`` the way to webhooks.
"""
