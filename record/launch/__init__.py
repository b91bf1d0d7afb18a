"""Records a script that nobody changed."""
