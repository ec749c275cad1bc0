"""The thin shells: ZeroMQ with CURVE and ZAP, the state directory, the node that runs the cores."""
