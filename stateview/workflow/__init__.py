"""Runs and steps: a workflow that goes on where it stopped, with its progress kept as entries.

`StateManager.run` begins a run. `options` and `context` hold what a call of a step depends on. `records` names the
entries, and digests what a step is called with. `run` holds the lock, and makes the commits. `step` calls one step,
`each` goes over items, `decorator` is `@step`. `control` lists runs and steps, and resets them.
"""
