"""Losses, teachers, masks and schedules that the papers' methods are made of."""
