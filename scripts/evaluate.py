from training.scoring import main

if __name__ == "__main__":
    main()
