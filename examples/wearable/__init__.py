"""Wearables: devices on the body infer in sequence, a phone forms one view, raw signals stay."""
