"""Contrast pairs -> steering vectors, their controls, and the conditions under which they are added."""
