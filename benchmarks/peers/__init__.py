"""Other engines at the same work, each in processes of the peers' own virtual environment; none of it imports ours."""
