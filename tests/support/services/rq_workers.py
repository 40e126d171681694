from govern import govern
from rq import SimpleWorker, Worker


class Horses(Worker):
    def perform_job(self, *args, **options):
        profiling = govern()
        try:
            return super().perform_job(*args, **options)
        finally:
            if profiling is not None:
                profiling.stop()


class NoHorses(SimpleWorker):
    def work(self, *args, **options):
        govern()
        return super().work(*args, **options)
