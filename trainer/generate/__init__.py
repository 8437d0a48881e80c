"""Ways of making defects: diffusion, procedural, copy-paste; one plan, one compositor, one contract."""
