"""The workspace: one folder on disk with everything that a project has, and its parts by name.

`workspace` opens it (`Workspace`), `config` are its settings, `lock` keeps it to one writer, who makes the small
changes that others ask for (`requests`, `asking`, `folding`), `lineage` says what its adapters were trained on. It
knows nothing of what is done in it.
"""
