"""The console: the mesh as a person at a terminal sees it.

What is shown is made by pure functions (``world``, ``nodes``, ``picture``, ``route``, ``record``,
``money``, ``streams``): from what the library says to lines of marked text. ``app`` and
``widgets`` put these lines on a screen and keys on actions; nothing else here needs Textual.
"""
