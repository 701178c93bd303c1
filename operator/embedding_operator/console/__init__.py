"""What a person sees on their own machine: costs in the terminal, and a page in the browser."""
