"""Other people's folders and formats become dataset folders."""
