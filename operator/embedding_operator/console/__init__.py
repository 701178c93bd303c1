"""The dashboard on a person's machine: costs in the terminal, and a page in the browser."""
