"""The cloud of one node: what leaves is masked and audited, what is served is paid and audited."""
