"""The methods of consolidation, one a module; `memory.consolidation` puts them together."""
