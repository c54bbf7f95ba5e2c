"""Signatures of agent cards (specification 8.4): detached JWS over the canonical JSON of a card.

``canonical`` says which bytes a signature is of, ``keys`` reads and makes keys, ``sign`` signs what a gateway shows and
``verify`` checks what a client got. Needs the extra ``signing``. *Does not know* where cards and keys come from.
"""
