"""One check a file or folder, a folder for each stage, and the ordered table of all of them."""
