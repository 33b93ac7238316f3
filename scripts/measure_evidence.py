from training.evidence_measures import main

if __name__ == "__main__":
    main()
