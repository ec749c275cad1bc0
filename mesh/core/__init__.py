"""The protocol, pure: messages and the time go in, messages and the next deadline come out.

Nothing in this package imports asyncio, zmq, sockets, clocks or files; a test holds that line.
"""
