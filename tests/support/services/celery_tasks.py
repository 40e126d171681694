import sys

from celery import Celery
from work import work

app = Celery("tasks", broker="filesystem://")
app.conf.update(
    broker_transport_options={
        "data_folder_in": "queue",
        "data_folder_out": "queue",
        "control_folder": "control",
        "polling_interval": 0.1,
    },
    worker_redirect_stdouts=False,
    worker_prefetch_multiplier=1,
)


@app.task
def spin():
    print("worked", work(), flush=True)


if __name__ == "__main__":
    for line in sys.stdin:
        for _ in range(int(line)):
            spin.delay()
