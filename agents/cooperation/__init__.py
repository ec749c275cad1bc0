"""How agents help each other beyond one answer: data, computation, knowledge."""
