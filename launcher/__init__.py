"""The `ovam` command: starts and stops the processes of the service, examines an installation, shows a demo."""
