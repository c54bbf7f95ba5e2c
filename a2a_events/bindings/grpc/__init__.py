"""The gRPC binding (specification 10), an optional extra: ``lf.a2a.v1.A2AService`` over the same operations.

``messages`` translates between protobuf and the JSON that the operations take and give, ``status`` shapes errors,
``service`` serves the calls, ``health`` says whether they can be served, ``server`` puts these together. Only this
package imports grpcio, protobuf and the official generated types.
"""
