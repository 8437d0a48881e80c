"""Process change: what production frames say of material, tools, light, lens and camera, beside the line."""
