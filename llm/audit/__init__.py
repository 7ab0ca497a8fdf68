"""What two policies say of each other's samples: what an audit of training rests on."""
