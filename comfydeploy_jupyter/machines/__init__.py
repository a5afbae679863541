"""Machines: the ComfyUI instances that runs can be sent to.

- A **machine** is one ComfyUI: on this computer, at an address, or started by a pool on a cluster.
- A **pool** is a queue of runs that several machines share; these are its **members**.
- A **lease** is the request of a pool for a worker of a Dask cluster: a task at its scheduler,
  which waits until a worker takes it, and may be taken by another worker later.
- A **grant** is a lease on one worker, from its start to its end. Its ComfyUI is a member of the
  pool as long as the grant serves, under the id of the grant.
"""
