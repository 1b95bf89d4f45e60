"""How the platform is brought to a machine: bootstrap, provisioning of the embedded services, compose file."""
