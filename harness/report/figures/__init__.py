"""Pictures of results: plain values in, a matplotlib figure out.  Nothing here knows of records or files."""
