"""How processes wake each other, ask for actions and report: doorbells, mailboxes, message pipes."""
