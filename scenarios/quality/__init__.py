"""Whether a faster server still answers as well: questions inside the speed traffic, judged item by item."""
