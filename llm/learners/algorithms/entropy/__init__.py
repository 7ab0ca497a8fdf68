"""Learners that hold up the entropy; one file each."""
