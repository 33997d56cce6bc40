"""Limited processes, in which files from outside are read.

A file can make a parser allocate, loop, or open other files. Here it can cost one process of its
own, which has limits on memory and CPU time, an empty working directory, no environment and no file
of the server. The process is forked from a template that has imported the parsers, so that it
starts within milliseconds, and it reads a single file.
"""
