"""A candidate goes in; a report of every earlier skill and general benchmark, and a verdict, come out."""
