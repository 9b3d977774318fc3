"""The load: sender processes that send on time and stamp what arrives; rows are made of it afterwards.

Imports nothing: a sender, which lies within, would pay for it at every measurement.
"""
