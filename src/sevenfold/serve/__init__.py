"""Answer over HTTP with a bundle alone: a page for people, JSON for programs, no torch.

```
refusals   what the server says no with: a status, a problem, a cure
gate       Host, Origin and token, before anything else is looked at
pool       so many pictures at a time, so many waiting, the rest told to come back
model      a picture's bytes, or an array of pixels, to probabilities
selftest   a stored picture must give its stored answer before the server is ready
collect    keeps pictures and corrections for the next training
meters     what Prometheus reads      openapi   what programs read      page   what people see
protocol   the Open Inference Protocol, version 2
connections  ends those that stay silent, and loses none when the server ends
app        the routes                 run       the process: socket, addresses, shutdown
```
"""

from sevenfold.serve.app import Settings, application
from sevenfold.serve.run import Address, serve

__all__ = ["Address", "Settings", "application", "serve"]
