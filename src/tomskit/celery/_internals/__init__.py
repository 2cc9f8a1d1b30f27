"""What is relied on of Celery, kombu and redis-py that is not public: named here, and nowhere else."""
