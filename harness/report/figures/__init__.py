"""Pictures of results: plain values in, a matplotlib figure out.  Nothing here knows of records or files."""

import os

os.environ["MPLBACKEND"] = "agg"  # pictures go to files: no backend of the environment is asked, nor need exist
