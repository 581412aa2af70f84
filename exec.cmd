@rem The scripts in package.json begin with "exec", so that signals sent to npm reach Node and its exit code comes back.
@rem Windows has no such command: there this file runs the rest of the line.
@%*
