"""Engines: where log-probabilities and sentences come from.

`base` says what an engine is, `transformers` is the local one (with its `conversation`, `adapted` models and
`dropout`), `chat` asks a model behind an API (through a `provider`), `scripted` needs no weights. `hub` finds models,
`model_folder` checks their files.
"""
