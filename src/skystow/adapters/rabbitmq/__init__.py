"""RabbitMQ as the bus between components: the originals' queues and messages, without their losses.

`queues` says which message goes where, `dialect` what it looks like there, `broker` carries it."""
