"""The book's machinery: run the notebooks, keep their records, render the site, check it.

`python -m strflab.book run`, then `stage`, `build` and `check`; `browse` opens the pages in a browser and `pdf` prints
them; `publish` copies the outputs of a full run into notebooks/. The Makefile calls them in order.
"""
